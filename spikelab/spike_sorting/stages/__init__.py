"""The steps of a sort, one module each, in the order of ``pipeline.STAGES``."""
