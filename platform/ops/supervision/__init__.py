"""Keep programs running, and end them without leaving anything behind."""
