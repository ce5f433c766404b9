"""`python -m service.client`: frames to a running service, its answers into files."""
