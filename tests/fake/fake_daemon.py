# SPDX-License-Identifier: Apache-2.0
"""A scripted daemon: answers JSON-RPC lines on a Unix socket the way a test tells it to."""

import json
import os
import socket
import tempfile
import threading


class Connection:
    """One client, as a handler sees it."""

    def __init__(self, sock):
        self.socket = sock
        self.buffer = b""
        self.descriptors = []  # that came with requests

    def send(self, message):
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def send_raw(self, data):
        self.socket.sendall(data)

    def notify(self, method, **params):
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def result(self, request, result):
        self.send({"jsonrpc": "2.0", "id": request["id"], "result": result})

    def error(self, request, code, message, **data):
        error = {"code": code, "message": message, "data": data}
        self.send({"jsonrpc": "2.0", "id": request["id"], "error": error})

    def receive(self):
        """The next message of the client, None at its end, which may cut a message."""
        while b"\n" not in self.buffer:
            data, descriptors, *_ = socket.recv_fds(self.socket, 1 << 18, 8)
            self.descriptors += descriptors
            self.buffer += data
            if not data:
                return None
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def take_socket(self):
        """The socket that came with a request, the first that was not taken."""
        taken = socket.socket(fileno=self.descriptors.pop(0))
        taken.setblocking(True)
        return taken

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class FakeDaemon:
    """Serves `handlers`: a method's name to a function of (connection, request).

    Everything that clients sent is kept in `requests`. A handler may read on from the connection
    itself. An exception in a handler is raised again by close(), so that the test fails. `path` is
    for a daemon that comes back where another one was.
    """

    def __init__(self, handlers, path=None):
        self.handlers = handlers
        self.requests = []
        self.failures = []
        self.directory = tempfile.TemporaryDirectory(prefix="fake-daemon-")
        self.path = path or os.path.join(self.directory.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.threads = []
        self.connections = []
        self.acceptor = threading.Thread(target=self._accept)
        self.acceptor.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            connection = Connection(sock)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection):
        try:
            while (request := connection.receive()) is not None:
                self.requests.append(request)
                self.handlers[request["method"]](connection, request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a client may leave when it has heard enough
        except Exception as failure:  # every other kind is the test's to see
            self.failures.append(failure)
        finally:
            for descriptor in connection.descriptors:
                os.close(descriptor)
            connection.socket.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.acceptor.join()
        self.listener.close()
        if os.path.exists(self.path):  # a test may have moved it
            os.unlink(self.path)
        for connection in self.connections:
            connection.close()
        for thread in self.threads:
            thread.join()
        self.directory.cleanup()
        if self.failures:
            raise self.failures[0]
