"""Live views: WebSockets, event streams and long polls, each able to replay what was missed."""
