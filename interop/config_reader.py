"""Reads configuration with the real oslo.config, for tests that read the same with the Rust library.

One JSON document on standard input, one on standard output.

{"list": true} gives every option that oslo.messaging registers, with what it takes.

{"cases": [{"files": [[name, text], ...], "environment": {...}}, ...], "options": [...]} gives, for each case, the values
of the options as Python's `str` shows them: {"GROUP.name": {"value": text} or {"error": class}}, or {"fault": class} if
the files cannot be read at all. Options are {"group", "name", "kind", "min", "max", "choices", "former"}; without any, those
of oslo.messaging count, and texts in [DEFAULT] of the names in "others".
"""

import json
import os
import sys
import tempfile

from oslo_config import cfg


KINDS = {
    "string": cfg.StrOpt,
    "boolean": cfg.BoolOpt,
    "integer": cfg.IntOpt,
    "floating point": cfg.FloatOpt,
    "list": cfg.ListOpt,
    "dict": cfg.DictOpt,
    "multi valued": cfg.MultiStrOpt,
}


def messaging_options():
    """Group and option of everything that oslo.messaging registers, listed for samples or not."""
    from oslo_messaging import opts
    from oslo_messaging._metrics import client as metrics
    from oslo_messaging._tracing import client as tracing
    from oslo_messaging.notify import _impl_routing as routing

    for group, options in opts.list_opts():
        for option in options:
            yield group or "DEFAULT", option
    for option in metrics.oslo_messaging_metrics:
        yield "oslo_messaging_metrics", option
    for option in tracing.oslo_messaging_tracing:
        yield "oslo_messaging_tracing", option
    yield "oslo_messaging_notifications", routing.router_config


def declared(option):
    extra = {}
    if option.get("min") is not None:
        extra["min"] = option["min"]
    if option.get("max") is not None:
        extra["max"] = option["max"]
    if option.get("choices"):
        extra["choices"] = option["choices"]
    former = [
        cfg.DeprecatedOpt(name, group=group or None)
        for group, name in option.get("former", [])
    ]
    made = KINDS[option["kind"]](
        option["name"], default=option.get("default"), deprecated_opts=former, **extra
    )
    return option["group"], made


def kind(option):
    for name, cls in KINDS.items():
        if type(option) is cls:
            return name
    return type(option).__name__


def texts(value):
    """The value as one would write it in a file."""
    if value is None:
        return []
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, list):
        return [",".join(value)]
    return [str(value)]


def listing():
    found = []
    for group, option in messaging_options():
        choices = getattr(option.type, "choices", None)
        found.append({
            "group": group,
            "name": option.name,
            "kind": kind(option),
            "default": option.default if option.multi else texts(option.default),
            "min": getattr(option.type, "min", None),
            "max": getattr(option.type, "max", None),
            "choices": list(choices) if choices else [],
            "former": [[old.group or "", old.name] for old in option.deprecated_opts],
            "secret": option.secret,
            "retiring": option.deprecated_for_removal,
        })
    return found


def read(case, options):
    conf = cfg.ConfigOpts()
    for group, option in options:
        conf.register_opt(option, group=None if group == "DEFAULT" else group)
    environment = case.get("environment", {})
    os.environ.update(environment)
    try:
        with tempfile.TemporaryDirectory() as folder:
            arguments = []
            for name, text in case["files"]:
                path = os.path.join(folder, name)
                with open(path, "w", newline="", encoding="utf-8") as file:
                    file.write(text)
                arguments += ["--config-file", path]
            try:
                conf(arguments, project="none", prog="none")
            except Exception as fault:
                return {"fault": type(fault).__name__}
            return {f"{group}.{option.name}": value(conf, group, option) for group, option in options}
    finally:
        for name in environment:
            del os.environ[name]


def value(conf, group, option):
    try:
        found = conf._get(option.dest, None if group == "DEFAULT" else conf._get_group(group))
    except Exception as fault:
        return {"error": type(fault).__name__}
    if option.multi:
        return {"value": str(found), "texts": found}
    return {"value": "" if found is None else str(found), "texts": texts(found)}


def main():
    order = json.load(sys.stdin)
    if order.get("list"):
        answer = listing()
    elif order.get("options"):
        answer = [read(case, [declared(one) for one in order["options"]]) for case in order["cases"]]
    else:
        others = [("DEFAULT", cfg.StrOpt(name)) for name in order.get("others", [])]
        answer = [read(case, others + list(messaging_options())) for case in order["cases"]]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
