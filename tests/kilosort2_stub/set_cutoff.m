function rez = set_cutoff(rez)
    rez.good = ones(numel(rez.noise), 1);
    rez.good(1) = 0;
end
