# SPDX-License-Identifier: Apache-2.0
"""The stub of the native module names what the module has, and nothing else."""

import ast
import os

import oslo_messaging_rust
from oslo_messaging_rust import _native


def stub():
    folder = os.path.dirname(oslo_messaging_rust.__file__)
    with open(os.path.join(folder, '_native.pyi')) as file:
        return ast.parse(file.read())


def test_the_stub_names_every_class_and_function():
    named = {node.name for node in stub().body
             if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    there = {name for name in dir(_native) if not name.startswith('_')}
    assert named == there


def test_the_stub_names_every_method():
    for node in stub().body:
        if not isinstance(node, ast.ClassDef) or node.bases:
            continue
        named = {item.name for item in node.body
                 if isinstance(item, ast.FunctionDef)} - {'__init__'}
        there = {name for name in vars(getattr(_native, node.name))
                 if not name.startswith('_')}
        assert named == there, node.name


def test_the_package_says_that_it_is_typed():
    folder = os.path.dirname(oslo_messaging_rust.__file__)
    assert os.path.exists(os.path.join(folder, 'py.typed'))
