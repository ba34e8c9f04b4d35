"""What a sort will take on this machine, judged before it starts and by what former sorts took."""
