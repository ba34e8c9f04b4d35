function rez = clusterSingleBatches(rez)
    fprintf('time %4.2f, compared %d / %d batches \n', 1, rez.n_batches, rez.n_batches);
end
