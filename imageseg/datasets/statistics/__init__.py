"""Class frequencies of a dataset, and class weights computed from them."""
