"""Tables, JSON and SARIF."""
