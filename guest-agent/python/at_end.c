/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Python module that ends a program's process early, when nobody could see the difference.
 *
 * Theory of operation: between the end of `main.py` and the end of the process CPython takes itself
 * apart, which writes to most pages of its heap: under TCG 40 of the 50 ms of a `print(1)`, and
 * megabytes that a clone no longer shares. Up to the exit handlers all is Python's own here, too:
 * SystemExit is printed, threads are waited for, handlers run. finish() is the handler that was
 * registered first and hence runs last. It looks at the objects that were made since watch(): when
 * none of them has a finalizer, is a file that may hold output, or calls back, taking them apart
 * does nothing but free memory. Then it flushes what Python would flush next, says farewell to the
 * agent (guest-agent/report.h) and ends the process. When in doubt it returns, and Python goes its
 * own way.
 *
 * What finish() needs and no hook in Python knows is the exit status. watch() replaces the function
 * that evaluates frames (PEP 523) until it meets the program's outermost frame, and puts the
 * original back before that runs.
 *
 * It knows CPython's insides, and so belongs to one minor version of it.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE_MODULE 1
#include <Python.h>
#include <internal/pycore_frame.h>
#include <internal/pycore_gc.h>
#include <internal/pycore_interp.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#if PY_VERSION_HEX >> 16 != 0x030b
#error "This module is written for the insides of CPython 3.11"
#endif

/* Open files are looked at one by one: who has more of them has no short run. */
#define FILES_MAX 64
#define UNKNOWN   (-1)

static struct {
	int report_fd;
	pid_t pid;
	ino_t pipe;
	int status;         /* of the program that has ended, or UNKNOWN */
	PyObject *sentinel; /* the last object of before the program */
	PyObject *text_type, *report;
	char library[256];             /* directory of Python's own modules */
	unsigned long long dl_objects; /* loaded since the process began */
} program = {.status = UNKNOWN};

/* --- The exit status ---------------------------------------------------------------------------
 */

static int status_of_code(PyObject *code)
{
	long number;

	if (!code || code == Py_None)
		return 0;
	/* Anything else is printed, and a failure. */
	if (!PyLong_Check(code))
		return 1;
	/* As Python does it: what is too large is -1. */
	number = PyLong_AsLong(code);
	PyErr_Clear();
	return (int)number & 0xff;
}

/* Does a subclass say by itself what its code is? Asking twice could be seen. */
static bool has_own_code(PyTypeObject *type)
{
	PyTypeObject *base = (PyTypeObject *)PyExc_SystemExit;
	PyObject *name = PyUnicode_InternFromString("code");
	bool result = !name || type->tp_getattro != base->tp_getattro ||
		      _PyType_Lookup(type, name) != _PyType_Lookup(base, name);

	Py_XDECREF(name);
	return result;
}

static int status_of_error(void)
{
	PyObject *type, *value, *traceback;
	int status = UNKNOWN;

	/* An uncaught exception is Python's business. */
	if (!PyErr_ExceptionMatches(PyExc_SystemExit))
		return UNKNOWN;
	/* Not normalized, the value is the code itself. */
	PyErr_Fetch(&type, &value, &traceback);
	if (!value || !PyExceptionInstance_Check(value))
		status = status_of_code(value);
	else if (!has_own_code(Py_TYPE(value)))
		status = status_of_code(((PySystemExitObject *)value)->code);
	PyErr_Restore(type, value, traceback);
	return status;
}

/* Before the program Python runs functions that look for importers of its path, and, when it has
 * no valid syntax, those that print its exception. */
static bool is_program(const struct _PyInterpreterFrame *frame)
{
	PyObject *main_module = frame->previous ? NULL : PyImport_AddModule("__main__");

	return main_module && frame->f_globals == PyModule_GetDict(main_module) &&
	       PyUnicode_CompareWithASCIIString(frame->f_code->co_name, "<module>") == 0;
}

static PyObject *eval_frame(PyThreadState *state, struct _PyInterpreterFrame *frame, int throw_flag)
{
	PyObject *result;

	if (!is_program(frame))
		return _PyEval_EvalFrameDefault(state, frame, throw_flag);
	_PyInterpreterState_SetEvalFrameFunc(state->interp, _PyEval_EvalFrameDefault);
	result = _PyEval_EvalFrameDefault(state, frame, throw_flag);
	program.status = result ? 0 : status_of_error();
	return result;
}

/* --- Would anybody see it? ---------------------------------------------------------------------
 */

static bool is_of_library(PyObject *function)
{
	PyCodeObject *code = (PyCodeObject *)((PyFunctionObject *)function)->func_code;
	const char *file = PyUnicode_AsUTF8(code->co_filename);

	if (!file)
		PyErr_Clear();
	return file && (strncmp(file, program.library, strlen(program.library)) == 0 ||
			strncmp(file, "<frozen ", 8) == 0);
}

/* The library's own callbacks only put its tables in order; so do those of abstract classes and
 * of threads' variables, which are written in C. */
static bool calls_back(PyObject *object)
{
	PyObject *callback = ((PyWeakReference *)object)->wr_callback;

	if (!callback)
		return false;
	if (PyCFunction_Check(callback)) {
		const char *name = ((PyCFunctionObject *)callback)->m_ml->ml_name;

		return strcmp(name, "_destroy") != 0 && strcmp(name, "_localdummy_destroyed") != 0;
	}
	return !PyFunction_Check(callback) || !is_of_library(callback);
}

static bool is_file(PyObject *object)
{
	static const char *const names[] = {"_io.TextIOWrapper",  "_io.BufferedReader",
					    "_io.BufferedWriter", "_io.BufferedRandom",
					    "_io.FileIO",         "_io.BytesIO",
					    "_io.StringIO"};

	/* A class of the program has the name of a type of C without its module. */
	for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++)
		if (strcmp(Py_TYPE(object)->tp_name, names[i]) == 0 &&
		    !(Py_TYPE(object)->tp_flags & Py_TPFLAGS_HEAPTYPE))
			return true;
	return false;
}

static bool finalizes(PyTypeObject *type)
{
	return type->tp_finalize || type->tp_del;
}

/* Is it as good as memory? Files are kept for later: to ask them runs code. */
static bool is_plain(PyObject *object, PyObject **files, size_t *files_len)
{
	PyTypeObject *type = (PyTypeObject *)object;

	if (PyWeakref_Check(object) && calls_back(object))
		return false;
	/* Objects without references are in none of the collector's lists. */
	if (PyType_Check(object) && !PyType_IS_GC(type) && finalizes(type))
		return false;
	if (!finalizes(Py_TYPE(object)))
		return true;
	if (!is_file(object) || *files_len == FILES_MAX)
		return false;
	files[(*files_len)++] = object;
	return true;
}

static PyObject *object_of(PyGC_Head *head)
{
	return (PyObject *)(head + 1);
}

/* All that was made since watch(), also what the program itself has frozen since. */
static bool are_objects_plain(struct _gc_runtime_state *gc, PyObject **files, size_t *files_len)
{
	PyGC_Head *end;

	for (size_t i = 0; i < NUM_GENERATIONS; i++) {
		end = &gc->generations[i].head;
		for (PyGC_Head *at = _PyGCHead_NEXT(end); at != end; at = _PyGCHead_NEXT(at))
			if (!is_plain(object_of(at), files, files_len))
				return false;
	}
	end = &gc->permanent_generation.head;
	for (PyGC_Head *at = _PyGCHead_PREV(end); at != end && object_of(at) != program.sentinel;
	     at = _PyGCHead_PREV(at))
		if (!is_plain(object_of(at), files, files_len))
			return false;
	return true;
}

static bool is_closed(PyObject *file)
{
	PyObject *closed = PyObject_GetAttrString(file, "closed");
	bool result = closed == Py_True;

	PyErr_Clear();
	Py_XDECREF(closed);
	return result;
}

/* In memory there is nothing to be flushed. */
static bool is_in_memory(PyObject *file)
{
	const char *name = Py_TYPE(file)->tp_name;

	return strcmp(name, "_io.BytesIO") == 0 || strcmp(name, "_io.StringIO") == 0;
}

/* Libraries that may do something at the end of their objects or of the process. */
static int on_library(struct dl_phdr_info *info, size_t size, void *data)
{
	static const char *const others[] = {"/_ctypes.",           "/_dbm.",     "/_gdbm.",
					     "/_xxsubinterpreters", "/_tkinter.", "/readline."};
	unsigned long long *loaded = data;

	(void)size;
	*loaded = info->dlpi_adds;
	if (info->dlpi_adds == program.dl_objects)
		return 1;
	for (size_t i = 0; i < Py_ARRAY_LENGTH(others); i++)
		if (strstr(info->dlpi_name, others[i]))
			return -1;
	/* Python's own, and what those use. */
	if (!*info->dlpi_name || strchr(info->dlpi_name, '/') == NULL ||
	    strncmp(info->dlpi_name, program.library, strlen(program.library)) == 0 ||
	    strncmp(info->dlpi_name, "/lib", 4) == 0 || strstr(info->dlpi_name, "/_execsandbox_"))
		return 0;
	return -1;
}

static bool are_libraries_known(void)
{
	unsigned long long loaded;

	return dl_iterate_phdr(on_library, &loaded) >= 0;
}

/* Who watches the interpreter itself sees it end. */
static bool is_watched(PyThreadState *state)
{
	struct _gc_runtime_state *gc = &state->interp->gc;

	return state->c_tracefunc || state->c_profilefunc || state->interp->audit_hooks ||
	       gc->debug != 0 || PyList_GET_SIZE(gc->callbacks) > 0 ||
	       (gc->garbage && PyList_GET_SIZE(gc->garbage) > 0);
}

/* Python's own stream of that name, or none. */
static bool get_stream(const char *name, const char *own_name, PyObject **ret)
{
	PyObject *stream = PySys_GetObject(name);

	if (!stream || stream != PySys_GetObject(own_name))
		return false;
	if (stream != Py_None && (PyObject *)Py_TYPE(stream) != program.text_type)
		return false;
	*ret = stream == Py_None ? NULL : stream;
	return true;
}

static bool is_end_silent(PyThreadState *state)
{
	PyObject *files[FILES_MAX];
	size_t files_len = 0;

	if (is_watched(state) || !are_libraries_known() ||
	    !are_objects_plain(&state->interp->gc, files, &files_len))
		return false;
	for (size_t i = 0; i < files_len; i++)
		if (!is_in_memory(files[i]) && !is_closed(files[i]))
			return false;
	return true;
}

/* --- The end -----------------------------------------------------------------------------------
 */

/* A stream that cannot be flushed is for Python to complain about. */
static bool flush(PyObject *stream)
{
	PyObject *result;

	if (!stream || is_closed(stream))
		return true;
	result = PyObject_CallMethod(stream, "flush", NULL);
	Py_XDECREF(result);
	PyErr_Clear();
	return result != NULL;
}

static void say_farewell(void)
{
	const char farewell[] = {'\0', (char)program.status};
	struct stat st;

	/* The program may have closed the pipe and got its number for a file of its own. Who cannot
	 * say it only ends later. */
	if (fstat(program.report_fd, &st) == 0 && st.st_ino == program.pipe &&
	    write(program.report_fd, farewell, sizeof(farewell)) < 0)
		return;
}

static void end_early(PyThreadState *state)
{
	PyObject *out, *err;

	/* A forked child does not speak for the program. With -i SystemExit is no end. */
	if (program.status == UNKNOWN || Py_InspectFlag || getpid() != program.pid ||
	    !get_stream("stdout", "__stdout__", &out) ||
	    !get_stream("stderr", "__stderr__", &err) || !is_end_silent(state) || !flush(out) ||
	    !flush(err))
		return;
	fflush(NULL);
	say_farewell();
	_exit(program.status);
}

/* What is frozen keeps alive what it refers to, and so what of the program shall be finalized.
 * Unless the program has frozen or thawed by itself: then it has that from Python, too. */
static void unfreeze(struct _gc_runtime_state *gc)
{
	PyGC_Head *from = &gc->permanent_generation.head;
	PyGC_Head *to = &gc->generations[NUM_GENERATIONS - 1].head;
	PyGC_Head *first = _PyGCHead_NEXT(from), *last = _PyGCHead_PREV(from);

	if (first == from || object_of(last) != program.sentinel)
		return;
	_PyGCHead_SET_NEXT(_PyGCHead_PREV(to), first);
	_PyGCHead_SET_PREV(first, _PyGCHead_PREV(to));
	_PyGCHead_SET_NEXT(last, to);
	_PyGCHead_SET_PREV(to, last);
	_PyGCHead_SET_NEXT(from, from);
	_PyGCHead_SET_PREV(from, from);
}

/* An exception was printed: describes it to the agent. Who traces the program shall not see it. */
static void report(PyThreadState *state)
{
	PyObject *result;

	PyThreadState_EnterTracing(state);
	result = PyObject_CallNoArgs(program.report);
	PyThreadState_LeaveTracing(state);
	PyErr_Clear();
	Py_XDECREF(result);
}

static PyObject *finish(PyObject *self, PyObject *args)
{
	PyThreadState *state = PyThreadState_Get();

	(void)self, (void)args;
	if (PySys_GetObject("last_value"))
		report(state);
	end_early(state);
	unfreeze(&state->interp->gc);
	Py_RETURN_NONE;
}

/* --- Life --------------------------------------------------------------------------------------
 */

static int count_library(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	*(unsigned long long *)data = info->dlpi_adds;
	return 1;
}

/* watch(report_fd, library, text_type, report): from here on everything is the program's. `report`
 * describes an exception that was printed. */
static PyObject *watch(PyObject *self, PyObject *args)
{
	const char *library;
	struct stat st;
	int fd;

	(void)self;
	if (!PyArg_ParseTuple(args, "isOO", &fd, &library, &program.text_type, &program.report))
		return NULL;
	if (fstat(fd, &st) < 0 || strlen(library) + 2 > sizeof(program.library))
		return PyErr_SetFromErrno(PyExc_OSError);
	Py_INCREF(program.text_type);
	Py_INCREF(program.report);
	snprintf(program.library, sizeof(program.library), "%s/", library);
	program.report_fd = fd;
	program.pid = getpid();
	program.pipe = st.st_ino;
	dl_iterate_phdr(count_library, &program.dl_objects);
	program.sentinel = PyList_New(0);
	if (!program.sentinel)
		return NULL;
	_PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), eval_frame);
	Py_RETURN_NONE;
}

/* The process runs no program of its own, but those of a session: it watches for none, and what
 * belongs to it in /proc, among that the descriptors that the agent gave it, is closed to the
 * user's other processes. */
static PyObject *stay(PyObject *self, PyObject *none)
{
	(void)self;
	(void)none;
	_PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), _PyEval_EvalFrameDefault);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"stay", stay, METH_NOARGS, "Makes it the interpreter of a session"},
	{"watch", watch, METH_VARARGS, "Begins to watch for the end of the program"},
	{"finish", finish, METH_NOARGS, "Ends the process if nobody could see the difference"},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
	.m_base = PyModuleDef_HEAD_INIT,
	.m_name = "_execsandbox_at_end",
	.m_size = -1,
	.m_methods = methods,
};

PyMODINIT_FUNC PyInit__execsandbox_at_end(void);
PyMODINIT_FUNC PyInit__execsandbox_at_end(void)
{
	if (Py_Version >> 16 != PY_VERSION_HEX >> 16)
		return PyErr_Format(PyExc_ImportError, "Made for Python %d.%d, not %s",
				    PY_MAJOR_VERSION, PY_MINOR_VERSION, Py_GetVersion());
	return PyModule_Create(&module);
}
