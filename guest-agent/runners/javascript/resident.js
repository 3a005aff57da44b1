// SPDX-License-Identifier: Apache-2.0
// The JavaScript of a session: runs one program after another in one global scope, and keeps what they define.
//
// The agent sends each program on a socket (guest-agent/resident.h, guest-agent/javascript/channel.c).
// The answer is an exit status and, of an uncaught exception, a report. A program is over when its top
// level is, and the promise that its last expression may be; or with its first uncaught exception; or
// when it calls process.exit(). What it has left goes on in the event loop: it writes where the program
// writes that runs then, or nowhere. As in a notebook, the value of a last expression is shown.
const { closeSync, fstatSync, readSync } = require("node:fs");
const { createRequire } = require("node:module");
const { pathToFileURL } = require("node:url");
const vm = require("node:vm");
const channel = require("./channel.node");
const { IMPORT_META, prepare } = require("./program.js");
const streams = require("./streams.js");

// Programs may put their own in place of these.
const { Array, Buffer, Error, Map, Number, Object, Promise, String, SyntaxError, process, setImmediate } = globalThis;
const { log } = console;
const { inspect } = Bun;

const GO = "EXECSANDBOX_GO_FD";
const socket = Number(process.env[GO]);
delete process.env[GO];

const importModuleDynamically = vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
const load = vm.runInThisContext("(source, options) => import(source, options)", { filename: "main.ts", importModuleDynamically });
// What process.exit() throws, to get out of the program.
const exit = new Error("process.exit() ends the program");

let count = 0;
let current; // the program that runs
let shown; // the last value: `_`, as long as no program has one of its own
const LINE_MAX = 200;
// As console.log() shows objects.
const SHOWN = { depth: 2 };

function define(object, name, value) {
	Object.defineProperty(object, name, { value, writable: true, enumerable: false, configurable: true });
}

// --- Texts of the last programs, for traces. ---

const TEXTS_MAX = 1 << 20; // characters
const texts = new Map(); // by name of program
let textsLength = 0;

function keepText(name, text) {
	texts.set(name, text);
	textsLength += text.length;
	for (const [oldest, { length }] of texts) {
		if (textsLength <= TEXTS_MAX) return;
		texts.delete(oldest);
		textsLength -= length;
	}
}

// --- Exceptions. ---

function textOf(value) {
	try {
		return String(value);
	} catch {
		return "[value without a text]";
	}
}

// The trace without our own frames.
function traceOf(error) {
	const lines = textOf(error.stack || `${error.name}: ${error.message}`).split("\n");
	const ours = lines.findIndex((line) => line.includes(__dirname));
	const own = ours < 0 ? lines : lines.slice(0, ours);
	return own.filter((line) => !/^ +at (runInThisContext|Script) \(|^ +at (async )?(<anonymous> )?\(?unknown/.test(line)).join("\n");
}

// The line where it was thrown, if that is a program's.
function lineOf(trace) {
	const [, name, line] = /^ +at .*?(<program \d+>):(\d+)/m.exec(trace) ?? [];
	const text = texts.get(name)?.split("\n")[line - 1];
	return text === undefined ? "" : `${line} | ${text.slice(0, LINE_MAX)}\n`;
}

function extrasOf(error) {
	const names = Object.keys(error).filter((name) => !["line", "column", "sourceURL", "originalLine", "originalColumn"].includes(name));
	return names.length === 0 ? "" : " " + inspect(Object.fromEntries(names.map((name) => [name, error[name]])));
}

function describe(error, depth = 0) {
	if (!(error instanceof Error) && typeof error?.stack !== "string") return `Uncaught ${inspect(error, SHOWN)}`;
	if (error.position) return inspect(error).trimEnd(); // of a file that cannot be parsed
	const trace = traceOf(error);
	let text = lineOf(trace) + trace + extrasOf(error);
	if (error.cause !== undefined && depth < 4) text += `\n\ncause: ${describe(error.cause, depth + 1)}`;
	for (const one of depth < 4 && Array.isArray(error.errors) ? error.errors : []) text += `\n\n${describe(one, depth + 1)}`;
	return text;
}

function clean(value, limit) {
	return value.slice(0, limit).replaceAll("\0", "\\x00").toWellFormed();
}

function reportOf(error, description) {
	const isObject = error !== null && typeof error === "object";
	const name = isObject ? textOf(error.name ?? error.constructor?.name) : typeof error;
	const value = isObject && "message" in error ? textOf(error.message) : inspect(error);
	return [clean(name, 128), clean(value, 4096), clean(description, 10000)].join("\0");
}

// --- A program. ---

class Program {
	constructor(message, text) {
		const parts = message.toString("utf8").split("\0").slice(0, -1);
		const [cwd, args] = parts;
		this.name = `<program ${++count}>`;
		this.text = readAll(text);
		this.cwd = cwd;
		this.args = parts.slice(2, 2 + Number(args));
		this.variables = parts.slice(2 + Number(args)).map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]);
		this.before = new Map();
	}

	// Arguments and variables are this program's only; the directory stays, as everything does.
	enter() {
		this.argvBefore = process.argv;
		if (this.args.length > 0) process.argv = this.argv = [process.execPath, `${where()}/main.ts`, ...this.args];
		for (const [name, value] of this.variables) {
			this.before.set(name, process.env[name]);
			process.env[name] = value;
		}
		if (this.cwd !== "") process.chdir(this.cwd);
		keepText(this.name, this.text);
		watch();
		defineModule();
	}

	// Imports come first, whatever stands before them.
	async import({ source, attributes, names }, used) {
		const module = await load(source, { with: attributes });
		for (const [imported, local] of names) {
			if (imported === "*" || imported in module) globalThis[local] = imported === "*" ? module : module[imported];
			else if (used.has(local)) throw this.syntaxError(`Export named '${imported}' not found in module '${source}'.`, "");
		}
	}

	async run() {
		const { imports, names, used, functions, body, isFunction, isShown } = this.prepare();
		const options = { filename: this.name, importModuleDynamically };
		const first = functions === "" ? null : new vm.Script(functions, options);
		const second = new vm.Script(body, options);
		for (const name of names) if (!declare(name)) throw this.syntaxError(`'${name}' cannot be declared`, "");
		for (const one of imports) await this.import(one, used);
		if (first) await call(first);
		const value = await call(second);
		const result = isFunction ? await Promise.resolve().then(value) : value;
		// Rejections that nobody handles are told in between.
		await new Promise(setImmediate);
		if (isShown && current === this) show(result);
	}

	prepare() {
		try {
			return prepare(this.text);
		} catch ({ message, at }) {
			throw this.syntaxError(message, `:${at.line}:${at.column}`);
		}
	}

	syntaxError(message, at) {
		const error = new SyntaxError(message);
		error.stack = `SyntaxError: ${message}\n    at ${this.name}${at}`;
		return error;
	}

	// What was said first counts. What the program does from here on it does in the background.
	end(status, report = "") {
		if (current !== this) return;
		current = undefined;
		const bytes = Buffer.from(report);
		const head = Buffer.alloc(5);
		head.writeUInt8(status & 0xff, 0);
		head.writeUInt32LE(bytes.length, 1);
		process.exitCode = 0; // Bun keeps it when told undefined
		this.leave();
		channel.write(socket, Buffer.concat([head, bytes]));
	}

	fail(error) {
		if (error === exit || current !== this) return;
		let report;
		try {
			const description = describe(error);
			channel.write(2, Buffer.from(description + "\n"));
			report = reportOf(error, description);
			define(globalThis, "_error", error);
		} catch {} // it cannot be described
		this.end(1, report);
	}

	// What the program has set itself stays.
	leave() {
		for (const [name, value] of this.variables) {
			const before = this.before.get(name);
			if (process.env[name] !== value) continue;
			if (before === undefined) delete process.env[name];
			else process.env[name] = before;
		}
		if (process.argv === this.argv) process.argv = this.argvBefore;
		streams.close();
	}
}

// Its value. Called by nobody, the program sees no frames but its own in its traces.
function call(script) {
	return Promise.resolve({ displayErrors: false }).then(script.runInThisContext.bind(script));
}

function readAll(fd) {
	const bytes = Buffer.alloc(fstatSync(fd).size);
	let length = 0;
	for (let n; length < bytes.length && (n = readSync(fd, bytes, length, bytes.length - length, length)) > 0; ) length += n;
	closeSync(fd);
	return bytes.toString("utf8", 0, length);
}

// Has the name be one that programs can assign, whatever it was before; or false.
function declare(name) {
	const before = Object.getOwnPropertyDescriptor(globalThis, name);
	if (before && !before.configurable) return before.writable;
	if (!before?.writable) Object.defineProperty(globalThis, name, { value: globalThis[name], writable: true, enumerable: true, configurable: true });
	return true;
}

function show(value) {
	if (value === undefined) return;
	log("%s", inspect(value, SHOWN));
	if ("_" in globalThis && globalThis._ !== shown) return;
	define(globalThis, "_", (shown = value));
}

// What a module has: of a file in the working directory.
let directory, ownRequire;
/** The working directory; the last that was known when it has been removed. */
function where() {
	try {
		return process.cwd();
	} catch {
		return directory;
	}
}

function defineModule() {
	if (directory === where()) return;
	directory = where();
	if (globalThis.require !== ownRequire) return;
	const filename = `${directory}/main.ts`;
	const require = createRequire(filename);
	const module = { exports: {}, filename, id: ".", loaded: false, children: [], paths: [], require };
	require.main = module;
	ownRequire = require;
	const values = { require, module, exports: module.exports, __filename: filename, __dirname: directory };
	for (const name in values) define(globalThis, name, values[name]);
	const { resolve } = require;
	const meta = { url: pathToFileURL(filename).href, path: filename, filename, file: "main.ts", dir: directory, dirname: directory, main: true,
		env: process.env, require, resolve: (source) => pathToFileURL(resolve(source)).href };
	define(globalThis, IMPORT_META, meta);
}

async function start(program) {
	try {
		await program.run();
		program.end(process.exitCode || 0);
	} catch (error) {
		program.fail(error);
	}
}

// --- The process. ---

function onUncaught(error) {
	current?.fail(error);
}

// A program that listens itself knows what it does.
const listeners = ["uncaughtException", "unhandledRejection"].map((event) => [event, (error) => {
	if (process.listenerCount(event) === 1) onUncaught(error);
}]);

function watch() {
	for (const [event, listener] of listeners) if (!process.listeners(event).includes(listener)) process.on(event, listener);
}

process.exit = (code = process.exitCode || 0) => {
	current?.end(Number(code) || 0);
	throw exit;
};

// Bun.spawn() has the environment of the process's start for the default, which lacks the programs'.
for (const name of ["spawn", "spawnSync"]) {
	const spawn = Bun[name];
	Bun[name] = (command, options) => {
		if (Array.isArray(command)) return spawn(command, { ...options, env: options?.env ?? process.env });
		return spawn({ ...command, env: command.env ?? process.env });
	};
}

process.argv.splice(1, process.argv.length, `${process.cwd()}/main.ts`);
const failure = channel.listen(socket, (message, text, ...descriptors) => {
	try {
		streams.open(descriptors);
		current = new Program(message, text);
		current.enter();
		start(current);
	} catch {
		process.reallyExit(1); // a program has broken what this needs
	}
});
if (failure < 0) process.reallyExit(1);
