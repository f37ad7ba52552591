"""The three APIs as WSGI applications: `wsgi:keystone`, `wsgi:glance`, `wsgi:magnum`; only the one asked for is loaded.

oslo.config parses sys.argv, where gunicorn leaves its own words, so each gets a command line of its own.
"""

import sys


def __getattr__(name):
    if name == "keystone":
        sys.argv = ["keystone"]
        from keystone.server.wsgi import initialize_public_application

        app = initialize_public_application()
    elif name == "glance":
        sys.argv = ["glance"]
        from glance.common.wsgi_app import init_app

        app = init_app()
    elif name == "magnum":
        sys.argv = ["magnum", "--config-file", "/etc/magnum/magnum.conf"]
        from magnum.api import app as api
        from magnum.common import service
        from magnum.objects import base

        service.prepare_service(sys.argv)
        base.MagnumObject.indirection_api = base.MagnumObjectIndirectionAPI()
        app = api.load_app()
    else:
        raise AttributeError(name)
    globals()[name] = app
    return app
