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
.SUFFIXES:
.DELETE_ON_ERROR:

VERSION := 0.1.0
B := build$(if $(SAN),/san)
WERROR ?= -Werror
CC = gcc

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wwrite-strings -Wvla -Wundef -Wformat=2 -Wswitch-enum -Wnull-dereference \
	-Wimplicit-fallthrough -Wdeclaration-after-statement $(WERROR)
WARNINGS := $(filter-out -Wdeclaration-after-statement -Wswitch-enum,$(WARNINGS))
SANITIZE := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all)
comma := ,
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

all: $(PROGRAMS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(firstword $(subst /, ,$*))) -MMD -MP -c -o $@ $<

clean:
	rm -rf build

.PHONY: all clean check lint images install run bench fuzz

-include $(shell [ -d $(B) ] && find $(B) -name '*.d')
