function rezToPhy(rez, folder)
    n_channels = numel(rez.noise);
    templates = zeros(n_channels, rez.ops.nt0, n_channels, 'single');
    for channel = 1:n_channels
        templates(channel, 21, channel) = -1;
    end
    writeNPY(uint64(rez.st3(:, 1) - 1), fullfile(folder, 'spike_times.npy'));  % the first sample is 0 outside of MATLAB
    writeNPY(uint32(rez.st3(:, 2) - 1), fullfile(folder, 'spike_clusters.npy'));
    writeNPY(uint32(rez.st3(:, 2) - 1), fullfile(folder, 'spike_templates.npy'));
    writeNPY(rez.st3(:, 3), fullfile(folder, 'amplitudes.npy'));
    writeNPY(templates, fullfile(folder, 'templates.npy'));
    writeNPY(int32(rez.good_channels - 1), fullfile(folder, 'channel_map.npy'));
    writeNPY([rez.xc(rez.good_channels) rez.yc(rez.good_channels)], fullfile(folder, 'channel_positions.npy'));
    columns = {'KSLabel', 'ContamPct', 'Amplitude'};
    for column = 1:3
        file = fopen(fullfile(folder, ['cluster_' columns{column} '.tsv']), 'w');
        fprintf(file, 'cluster_id\t%s\n', columns{column});
        for unit = 1:n_channels
            if column == 1
                labels = {'mua', 'good'};
                fprintf(file, '%d\t%s\n', unit - 1, labels{rez.good(unit) + 1});
            else
                fprintf(file, '%d\t%.1f\n', unit - 1, 5 * column);
            end
        end
        fclose(file);
    end
    file = fopen(fullfile(folder, 'params.py'), 'w');
    fprintf(file, 'dat_path = ''%s''\n', rez.ops.fbinary);
    fclose(file);
end
