"""One module or package per outside thing; none knows another."""
