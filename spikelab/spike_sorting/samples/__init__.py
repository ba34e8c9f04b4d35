"""Whether the samples of a recording are what they are taken for: judged from windows all over it, in a second."""
