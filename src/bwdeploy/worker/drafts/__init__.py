"""Drafts of speculative decoding: trained, audited and measured with the real models."""
