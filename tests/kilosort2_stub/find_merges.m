function rez = find_merges(rez, ~)
end
