function rez = preprocessDataSub(ops)
    fprintf('Time %3.0fs. Determining good channels.. \n', 0);
    for name = fieldnames(ops)'
        if isnumeric(ops.(name{1})) || islogical(ops.(name{1}))
            fprintf('ops.%s: %s %s\n', name{1}, class(ops.(name{1})), mat2str(ops.(name{1})));
        end
    end
    mapped = load(ops.chanMap);
    file = fopen(ops.fbinary);
    samples = fread(file, [ops.NchanTOT Inf], 'int16=>double');
    fclose(file);
    samples = samples - median(samples, 2);
    noise = median(abs(samples), 2) / 0.6745;
    good = find(noise > 0);
    fprintf('NchanTOT = %d\n', ops.NchanTOT);
    fprintf('found %d bad channels \n', numel(noise) - numel(good));
    rez = struct('ops', ops, 'samples', samples(good, :), 'noise', noise(good), 'good_channels', good, ...
                 'xc', mapped.xcoords(:), 'yc', mapped.ycoords(:), 'n_batches', ceil(size(samples, 2) / ops.NT));
    fprintf('Time %3.0fs. Finished preprocessing %d batches. \n', 1, rez.n_batches);
end
