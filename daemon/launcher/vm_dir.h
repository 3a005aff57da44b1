/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of VMs in `<runtime_dir>/vm`: one per VM, named by its id. */
#ifndef DAEMON_LAUNCHER_VM_DIR_H
#define DAEMON_LAUNCHER_VM_DIR_H

#include <stdbool.h>

#define VM_DIR_PARENT "vm"
/* With its NUL; ids are drawn by draw_id() and shorter. */
#define VM_DIR_NAME_SIZE 64

/* Whether it is the id of a VM: letters, digits and "._-", ending with "vm_" and 16 hexadecimal
 * digits. Such a name is harmless as that of a directory. */
bool vm_dir_is_id(const char *name);

/* Opens that of a VM, O_PATH and no link. The descriptor or -errno. */
int vm_dir_open(int vms_fd, const char *id);

/* Removes a VM's directory with the files in it. 0, also when there is none, or -errno. */
int vm_dir_remove(int vms_fd, const char *id);

/* Removes one file of it; needs no descriptor. 0, also when there is none, or -errno. */
int vm_dir_remove_file(int vms_fd, const char *id, const char *name);

/* Calls fn(user, id) for every directory that is named like a VM. 0 or -errno. */
int vm_dir_walk(int vms_fd, void (*fn)(void *user, const char *id), void *user);

#endif
