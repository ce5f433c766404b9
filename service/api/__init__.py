"""HTTP in and out: authentication, limits, uploads, routes, responses and their OpenAPI document."""
