"""What a project hands over. Tabserve reads nothing else of the project's own package."""


class Project:
    """References to three things, each `package.module:name` and imported only by the tasks that need it.

    The image of the server, for example, has no library that `pipelines` imports.

    Attributes:
        name: of the command.
        pipelines: a function of task, columns and seed that returns a mapping of names to unfitted pipelines.
        features: a mapping of names to derived features.
        application: a function of the server's settings that returns the FastAPI application.
    """

    def __init__(self, name: str, pipelines: str, features: str, application: str) -> None:
        self.name, self.pipelines, self.features, self.application = name, pipelines, features, application
