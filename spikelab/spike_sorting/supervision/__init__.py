"""The machine: locks, durable files, worker processes, the journal. Knows nothing about spikes."""
