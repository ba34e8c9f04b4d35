"""RT-Sort: sequences of spikes along neurites, found by a package in an interpreter of its own."""
