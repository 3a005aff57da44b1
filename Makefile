# SPDX-License-Identifier: Apache-2.0
# One Makefile; each folder adds its sources and targets in a Makefile.inc.
#
#   make            daemon, agent and execsandboxctl under build/
#   make images     guest kernel and root filesystem under build/images (cached outside the tree)
#   make run        a daemon in the foreground, socket build/run/execsandbox.sock
#   make check      all tests (needs images)
#   make lint, make bench, make fuzz, make install
#
#   SAN=1           AddressSanitizer and UBSan, in build/san
#   WERROR=         do not turn warnings into errors

MAKEFLAGS += --no-builtin-rules
# V=1 shows the commands.
ifndef V
MAKEFLAGS += --silent
endif
.SUFFIXES:
.DELETE_ON_ERROR:

VERSION := 0.1.0
B := build$(if $(SAN),/san)
WERROR ?= -Werror
CC = gcc

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wnull-dereference -Wimplicit-fallthrough $(WERROR)
comma := ,
SANITIZE := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all)
OPTIMIZE ?= $(if $(SAN),-O1,-O2 -D_FORTIFY_SOURCE=2)
CPPFLAGS += -I. -D_GNU_SOURCE -DEXECSANDBOX_VERSION='"$(VERSION)"'
CFLAGS += -std=gnu11 -g $(OPTIMIZE) -fstack-protector-strong -fPIE -fno-strict-aliasing \
	$(WARNINGS) $(SANITIZE)
LDFLAGS += $(SANITIZE)

# $(call objects,sources): where the objects of C sources lie.
objects = $(patsubst %.c,$(B)/%.o,$(1))

all:

include base/Makefile.inc
include protocol/Makefile.inc
-include conf/Makefile.inc
-include daemon/Makefile.inc
-include guest-agent/Makefile.inc
-include ctl/Makefile.inc
-include images/Makefile.inc
-include tests/Makefile.inc
-include docs/Makefile.inc
-include clients/python/Makefile.inc

all: $(PROGRAMS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC       $<")
	$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(firstword $(subst /, ,$*))) -MMD -MP -c -o $@ $<

# Installs what packages would: programs, units, accounts, configuration, manual pages, the guest image.
prefix ?= /usr
install: all images man
	install -D -m 755 $(B)/daemon/execsandboxd $(DESTDIR)$(prefix)/sbin/execsandboxd
	install -D -m 755 $(B)/daemon/execsandbox-launcher $(DESTDIR)$(prefix)/libexec/execsandbox/execsandbox-launcher
	install -D -m 755 $(B)/ctl/execsandboxctl $(DESTDIR)$(prefix)/bin/execsandboxctl
	install -D -m 644 -t $(DESTDIR)/lib/systemd/system execsandboxd.service execsandboxd.socket
	install -D -m 644 conf/sysusers.d/execsandbox.conf $(DESTDIR)$(prefix)/lib/sysusers.d/execsandbox.conf
	install -D -m 644 conf/tmpfiles.d/execsandbox.conf $(DESTDIR)$(prefix)/lib/tmpfiles.d/execsandbox.conf
	install -D -m 644 -t $(DESTDIR)$(prefix)/lib/execsandbox conf/execsandboxd.conf
	install -D -m 644 -t $(DESTDIR)$(prefix)/lib/execsandbox/images build/images/vmlinux \
		build/images/rootfs.erofs build/images/manifest.json \
		build/images/qemu-stubs.so build/images/qemu-stubs.list
	install -D -m 644 -t $(DESTDIR)$(prefix)/share/man/man1 docs/man/execsandboxctl.1
	install -D -m 644 -t $(DESTDIR)$(prefix)/share/man/man5 $(MAN_CONF)
	install -D -m 644 -t $(DESTDIR)$(prefix)/share/man/man8 docs/man/execsandboxd.8

clean:
	rm -rf build

.PHONY: all clean check lint images install run bench fuzz

-include $(shell [ -d $(B) ] && find $(B) -name '*.d')
