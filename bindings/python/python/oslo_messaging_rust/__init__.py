# SPDX-License-Identifier: Apache-2.0
"""A driver for oslo.messaging on an engine in Rust.

There is nothing to import here: oslo.messaging finds the driver by its entry point when a transport URL begins with
``rust+``, such as ``rust+rabbit://``.
"""
