"""Floor 5: plug-ins for other frameworks. Nothing here is imported by the rest of the package."""
