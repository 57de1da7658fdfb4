"""HTTP over an open project: events in, answers out, and the commands of processes that are not its owner.

Rules of this room:
  * the only room with `async`; what blocks runs in a thread, so the event loop never waits;
  * every route but `/healthz` is behind the door (`door.py`): loopback only, no other site's pages, and the token where
    the server is not open;
  * shapes and errors are those of `tidemill.project.operations`: a client cannot tell the owner from its answers.
"""
