"""Files of rows that people bring: which are read, in which form, and what a row means, the same for every use."""
