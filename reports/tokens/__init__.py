"""Identity by signed tokens (JWT): keys, issuing, verifying, and what a token permits."""
