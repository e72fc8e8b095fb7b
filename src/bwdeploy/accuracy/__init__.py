"""Whether a model is as good as another, from paired samples: intervals and verdicts, pure arithmetic."""
