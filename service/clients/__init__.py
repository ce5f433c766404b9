"""Clients of a running service: the batch client for files, and the bridge for an Orthanc server."""
