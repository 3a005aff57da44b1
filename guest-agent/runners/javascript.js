// SPDX-License-Identifier: Apache-2.0
// Reports an uncaught exception of the program to the agent; otherwise leaves Bun alone.
//
// Preloaded by `bun --preload`. The monitor event changes neither what Bun prints nor its exit code,
// as long as the error's `stack` is not touched before Bun has printed it: hence the second step at
// exit. Rejected promises have no such event and are not reported. It is the program's claim.
const fd = Number(process.env.EXECSANDBOX_REPORT_FD);
delete process.env.EXECSANDBOX_REPORT_FD;

let uncaught;
process.on("uncaughtExceptionMonitor", (error) => {
	uncaught = { error };
});

function clean(value, limit) {
	return String(value ?? "").slice(-limit).replaceAll("\0", "\\x00");
}

process.on("exit", () => {
	if (!uncaught) return;
	const error = uncaught.error;
	try {
		const isError = error !== null && typeof error === "object";
		const name = isError ? error.name : typeof error;
		const value = isError ? error.message : error;
		const report = [clean(name, 128), clean(value, 4096), clean(error?.stack, 10000)];
		require("node:fs").writeSync(fd, report.join("\0"));
	} catch {}
});
