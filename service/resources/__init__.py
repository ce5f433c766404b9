"""What the machine gives to the service, and how workers and clients share it."""
