"""What a user may say: schema, loading, composition."""
