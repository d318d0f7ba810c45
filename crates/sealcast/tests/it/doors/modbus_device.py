"""A Modbus TCP device made of pymodbus, for the tests.

Coils and registers are as the arguments say; the first line on standard output is the port.
"""

import asyncio
import socket
import sys

from pymodbus.server import ModbusTcpServer

try:
    from pymodbus.simulator import DataType, SimData, SimDevice
except ImportError:
    SimData = None


def context():
    if SimData is not None:
        return SimDevice(
            1,
            simdata=(
                [SimData(0, count=16, values=False, datatype=DataType.BITS)],
                [SimData(0, count=16, values=True, datatype=DataType.BITS)],
                [SimData(0, count=16, values=0, datatype=DataType.REGISTERS)],
                [SimData(0, values=[215, 65534, 16812, 0], datatype=DataType.REGISTERS)],
            ),
        )
    raise SystemExit("pymodbus is too old")


async def main():
    listener = socket.socket()
    # Connections of a device that was killed do not keep the next one from its port.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    port = listener.getsockname()[1]
    listener.close()
    server = ModbusTcpServer(context(), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    print(port, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
