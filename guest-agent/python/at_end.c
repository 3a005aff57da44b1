/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Python module that calls a function when the program's last frame has returned.
 *
 * Theory of operation: between the end of `main.py` and the end of the process CPython takes itself
 * apart, which writes to most pages of its heap: under TCG 40 of the 50 ms of a `print(1)`, and
 * megabytes that a clone no longer shares. No hook in Python knows the exit status before that. So
 * this one replaces the function that evaluates frames (PEP 523) until it meets the program's
 * outermost frame, puts the original back before it runs, and afterwards has `end(error)` called,
 * with the SystemExit that ended the program or None, which does what has to be done and ends the
 * process. Uncaught exceptions, and an `end` that fails, go Python's own way.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE_MODULE 1
#include <Python.h>
#include <internal/pycore_frame.h>

static PyObject *end_function;

static void call_end(PyObject *error)
{
	PyObject *result = PyObject_CallOneArg(end_function, error ? error : Py_None);

	/* It came back: it could not end the process. */
	if (!result)
		PyErr_Clear();
	Py_XDECREF(result);
}

static PyObject *run_program(PyThreadState *state, struct _PyInterpreterFrame *frame, int throw_flag)
{
	PyObject *result = _PyEval_EvalFrameDefault(state, frame, throw_flag);
	PyObject *type, *error, *traceback;

	if (!result && !PyErr_ExceptionMatches(PyExc_SystemExit))
		return NULL;
	PyErr_Fetch(&type, &error, &traceback);
	PyErr_NormalizeException(&type, &error, &traceback);
	/* Its frames hold objects that shall be finalized. */
	Py_CLEAR(traceback);
	if (error)
		PyException_SetTraceback(error, Py_None);
	call_end(error);
	PyErr_Restore(type, error, traceback);
	return result;
}

static PyObject *eval_frame(PyThreadState *state, struct _PyInterpreterFrame *frame, int throw_flag)
{
	/* Before the program Python looks for importers of its path, in functions. */
	if (frame->previous ||
	    PyUnicode_CompareWithASCIIString(frame->f_code->co_name, "<module>") != 0)
		return _PyEval_EvalFrameDefault(state, frame, throw_flag);
	_PyInterpreterState_SetEvalFrameFunc(state->interp, _PyEval_EvalFrameDefault);
	return run_program(state, frame, throw_flag);
}

static PyObject *set_end(PyObject *self, PyObject *function)
{
	(void)self;
	Py_XSETREF(end_function, Py_NewRef(function));
	_PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), eval_frame);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"set_end", set_end, METH_O, "Calls end(error) when the program has ended"},
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
	return PyModule_Create(&module);
}
