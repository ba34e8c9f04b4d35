"""Sorters in containers: what a container is made of, the runtimes that run it, and its end whatever happens.

A backend whose settings have ``use_docker`` calls `running.run_contained` with a command, the files that it reads and
the folders that it writes::

    ran = run_contained(
        job,
        ("python", "-I", str(script), str(orders_folder)),
        reads=(script, traces_path),
        writes=(orders_folder,),
        on_line=lambda line: take_note_of(line),
    )
    ran.exit_code, ran.tail, ran.image.to_dict()

Paths are the same inside and outside, so that orders need no translation; ``job.folder`` and ``job.run.scratch`` are
always there, and writable. Each line of output comes to ``on_line`` and goes to the log of the run. A program that says
how far it is writes `supervision.progress.ProgressLines`, or anything else that ``on_line`` understands; one in Python
registers ``faulthandler`` for SIGQUIT, so that it says where it hung when it is ended. Running out of
memory and failures of the runtime are raised, classified; what another exit code means is for the backend to say. It
puts ``{"image": ran.image.to_dict()}`` into what `sort` returns, and `images.container_settings` into its settings.
"""
