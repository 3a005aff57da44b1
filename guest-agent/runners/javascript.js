// SPDX-License-Identifier: Apache-2.0
// Reports an uncaught exception of the program to the agent; otherwise leaves Bun alone.
//
// Preloaded by `bun --preload`. The monitor event changes neither what Bun prints nor its exit code,
// as long as the error's `stack` is not touched before Bun has printed it: hence the second step at
// exit. A rejected promise that nobody handles has no such event: it is printed here as Bun prints
// it, unless the program has a handler of its own. What is reported is the program's claim.
const { closeSync, fstatSync, readSync, writeSync } = require("node:fs");

// Waits for the go message (guest-agent/go.h) and applies it. Its variables are none: Bun would not
// pass them on to processes and workers, so the agent starts another one for those.
function wait() {
	const go = Number(process.env.EXECSANDBOX_GO_FD);
	delete process.env.EXECSANDBOX_GO_FD;
	const { setRandomSeed } = require("bun:jsc");
	const buffer = Buffer.alloc(16384);
	let length = 0;
	writeSync(go, ".");
	for (let n; (n = readSync(go, buffer, length, buffer.length - length)) > 0; ) length += n;
	closeSync(go);
	if (length === 0) process.exit(0); // there is nothing to run
	const [cwd, , ...args] = buffer.toString("utf8", 0, length - 1).split("\0");
	if (args.length > 0) process.argv.push(...args);
	if (cwd !== "") process.chdir(cwd);
	// The host has it wait only after the reseed, so that `crypto` is fresh; but copies of one that waited
	// would share this generator. The first numbers after a seed resemble it.
	setRandomSeed(crypto.getRandomValues(new Uint32Array(1))[0]);
	for (let i = 0; i < 16; i++) Math.random();
}

if ("EXECSANDBOX_GO_FD" in process.env) wait();
const fd = Number(process.env.EXECSANDBOX_REPORT_FD);
delete process.env.EXECSANDBOX_REPORT_FD;
const pipe = fstatSync(fd).ino;

let uncaught;
process.on("uncaughtExceptionMonitor", (error) => {
	uncaught = { error };
});

process.on("unhandledRejection", (error) => {
	if (process.listenerCount("unhandledRejection") > 1) return;
	uncaught = { error };
	if (error instanceof Error) console.error(error);
	else if (error !== null && typeof error === "object") console.error("error\n%s\n", Bun.inspect(error));
	else console.error("error: %s\n%s\n", String(error), String(error));
	console.error(`Bun v${Bun.version} (Linux x64)`);
	process.exit(1);
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
		// The program may have closed the pipe and got its number for a file of its own.
		if (fstatSync(fd).ino === pipe) writeSync(fd, report.join("\0"));
	} catch {}
});
