% Marks the folder as that of Kilosort2.
