# SPDX-License-Identifier: Apache-2.0
# One Makefile; each folder adds its sources and targets in a Makefile.inc.
#
#   make            daemon, agent and execsandboxctl under build/
#   make images     guest kernel and root filesystem under build/images (cached outside the tree)
#   make run        a daemon in the foreground, socket build/run/execsandbox.sock
#   make check      all tests (needs images)
#   make lint, make bench, make fuzz, make soak, make chaos, make install
#   make deb        Debian packages under build/deb
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

# Installs what the packages have (conf/debian), which are made by these targets, one for each: below /usr, where the units
# and the programs look for each other.
UNITS := $(sort $(wildcard *.service *.socket))
LAUNCHER := $(filter %/execsandbox-launcher,$(PROGRAMS))
# Images that are there already, for a build of packages; else they are made.
IMAGES ?=
IMAGE_FILES := vmlinux rootfs.erofs manifest.json qemu-stubs.so qemu-stubs.list
# Which software of others is in them.
IMAGE_RECORDS := packages.manifest packages.copyright kernel.config

install: install-daemon install-ctl install-guest

# All of the packages but the guest image.
packaged: $(B)/daemon/execsandboxd $(LAUNCHER) $(COMPLETION) man

install-daemon: $(B)/daemon/execsandboxd $(LAUNCHER) $(MAN_CONF)
	install -D -m 755 $(B)/daemon/execsandboxd $(DESTDIR)/usr/sbin/execsandboxd
	$(if $(LAUNCHER),install -D -m 755 -t $(DESTDIR)/usr/libexec/execsandbox $(LAUNCHER))
	install -D -m 644 -t $(DESTDIR)/lib/systemd/system $(UNITS)
	install -D -m 644 conf/sysusers.d/execsandbox.conf $(DESTDIR)/usr/lib/sysusers.d/execsandbox.conf
	install -D -m 644 conf/tmpfiles.d/execsandbox.conf $(DESTDIR)/usr/lib/tmpfiles.d/execsandbox.conf
	install -D -m 644 conf/needrestart/execsandbox.conf $(DESTDIR)/etc/needrestart/conf.d/execsandbox.conf
	install -D -m 644 -t $(DESTDIR)/usr/lib/execsandbox conf/execsandboxd.conf
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man5 $(MAN_CONF)
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man8 $(wildcard docs/man/*.8)

install-ctl: $(B)/ctl/execsandboxctl $(COMPLETION) man-ctl
	install -D -m 755 $(B)/ctl/execsandboxctl $(DESTDIR)/usr/bin/execsandboxctl
	install -D -m 644 $(COMPLETION) $(DESTDIR)/usr/share/bash-completion/completions/execsandboxctl
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man1 docs/man/execsandboxctl.1

install-guest: $(if $(IMAGES),,images)
	install -D -m 444 -t $(DESTDIR)/usr/lib/execsandbox/images \
		$(IMAGE_FILES:%=$(or $(IMAGES),build/images)/%)
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/execsandbox-guest \
		$(IMAGE_RECORDS:%=$(or $(IMAGES),build/images)/%)

clean:
	rm -rf build

.PHONY: all clean check deb lint images install install-daemon install-ctl install-guest packaged run bench fuzz

-include $(shell [ -d $(B) ] && find $(B) -path '$(B)/deb*' -prune -o -type f -name '*.d' -print)
