"""The application: everything put together, and run as one process."""

from cloudfinite.app.application import App
from cloudfinite.app.process import serve

__all__ = ["App", "serve"]
