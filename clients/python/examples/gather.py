#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many runs at once on one connection; one that takes too long for us is stopped."""

import asyncio

from execsandbox import AsyncSandbox


async def main() -> None:
    async with AsyncSandbox() as sandbox:
        runs = [sandbox.run(f"echo $(({n} * {n}))", "shell") for n in range(10)]
        results = await asyncio.gather(*runs)
        print([int(result.stdout) for result in results])
        print(len({result.vm for result in results}), "VMs")

        try:
            async with asyncio.timeout(0.5):
                await sandbox.run("import time; time.sleep(60)")
        except TimeoutError:
            print("stopped")


asyncio.run(main())
