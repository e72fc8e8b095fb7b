"""Quantization with training or search: QAT, QAD, and the search for a format of each layer."""
