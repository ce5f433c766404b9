"""HTTP in and out: authentication, admission, uploads, routes, responses and their OpenAPI document."""
