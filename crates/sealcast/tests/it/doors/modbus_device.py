"""A Modbus TCP device made of pymodbus, for the tests: modbus_device.py PORT.

The first line on standard output is the port, once it listens there.
"""

import asyncio
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
    port = int(sys.argv[1])
    server = ModbusTcpServer(context(), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    print(port, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
