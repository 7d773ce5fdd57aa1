"""What receives data as a viewer does, without a window."""

import socket
import subprocess
import sys

SERVER = """
import sys, time
import rerun as rr
stream = rr.RecordingStream("server")
print(stream.serve_grpc(grpc_port=int(sys.argv[1])), flush=True)
time.sleep(600)
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class Server:
    """A process that receives what a viewer would."""

    def __init__(self):
        self.port, self.process = free_port(), None

    def start(self):
        command = [sys.executable, "-c", SERVER, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline()

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None
