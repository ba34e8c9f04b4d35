function rez = splitAllClusters(rez, ~)
end
