// SPDX-License-Identifier: Apache-2.0
// Standard streams of one program after another, on descriptors that are each program's own.
//
// Bun's keep what they have read ahead, end with their first input, and give away output before it is
// written. So what it has on them is replaced; console.log() and Bun.stdin are good as they are.
const { createReadStream, readSync } = require("node:fs");
const channel = require("./channel.node");

const { Buffer, Object, process } = globalThis; // programs may have their own

// Made when somebody asks for it, for streams take long to load; a program may put its own there.
function define(name, make) {
	let stream;
	Object.defineProperty(process, name, {
		get: () => (stream ??= make()),
		set: (value) => (stream = value),
		enumerable: true,
		configurable: true,
	});
	return () => stream;
}

// Written at once, as Node does with pipes, so that nothing is behind when the program ends.
function makeOutput(fd) {
	const { Writable } = require("node:stream");
	const write = (data, _encoding, done) => {
		channel.write(fd, data);
		done();
	};
	return Object.assign(new Writable({ autoDestroy: false, write }), { fd, _isStdio: true });
}

const outputs = [{ fd: 1, name: "stdout" }, { fd: 2, name: "stderr" }];

function openOutput(output) {
	output.made = define(output.name, () => makeOutput(output.fd));
}

// The next line of the input, which nobody reads ahead; null at its end.
function readLine() {
	const bytes = [];
	const byte = Buffer.alloc(1);
	let n;
	while ((n = readSync(0, byte)) > 0 && byte[0] !== 10) bytes.push(byte[0]);
	return n === 0 && bytes.length === 0 ? null : Buffer.from(bytes).toString().replace(/\r$/, "");
}

function ask(question) {
	channel.write(1, Buffer.from(`${question} `));
	return readLine();
}

globalThis.alert = (message = "Alert") => void ask(`${message} [Enter]`);
globalThis.confirm = (message = "Confirm") => /^y(es)?$/i.test(ask(`${message} [y/N]`) ?? "");
globalThis.prompt = (message = "Prompt", value) => ask(value === undefined ? message : `${message} [${value}]`) || (value ?? null);

console[Symbol.asyncIterator] = async function* () {
	yield* require("node:readline").createInterface({ input: process.stdin });
};
outputs.forEach(openOutput);

// Input anew, lest one program reads what another has left; outputs only if a program has ended them,
// so that whoever keeps them goes on writing.
exports.open = function (descriptors) {
	channel.open(...descriptors);
	Bun.stdin = Bun.file(0);
	define("stdin", () => createReadStream(null, { fd: 0, autoClose: false }));
	for (const output of outputs) if (output.made()?.writable === false) openOutput(output);
};

// What goes on in the background writes to nobody.
exports.close = channel.close;
