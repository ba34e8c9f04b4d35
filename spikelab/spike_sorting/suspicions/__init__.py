"""Cheap checks of what came out of a sort, each of which says "look at this": a sort can succeed and be wrong."""
