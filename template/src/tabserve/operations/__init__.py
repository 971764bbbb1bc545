"""Images, manifests, clusters: what surrounds the server."""
