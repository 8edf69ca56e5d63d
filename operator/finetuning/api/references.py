"""What a job says of things beside it: Secrets of its namespace, and S3 stores."""

from pydantic import Field

from finetuning.api.base import ApiModel
from finetuning.api.text import DataKey, EndpointUrl, ObjectName, Region


class SecretKeyRef(ApiModel):
    """One key of a Secret in the job's own namespace; the operator never reads it."""

    name: ObjectName = Field(description="Name of the Secret, in the job's namespace.")
    key: DataKey = Field(description="Key inside the Secret, such as token.")


class SecretRef(ApiModel):
    """A Secret in the job's own namespace; the operator never reads it."""

    name: ObjectName = Field(description="Name of the Secret, in the job's namespace.")


class S3Spec(ApiModel):
    """An S3 store; who uses it gets this by the environment of its pod."""

    endpoint: EndpointUrl | None = Field(
        default=None,
        description="Address of an S3 store other than Amazon's, such as "
        "https://minio.storage.svc:9000.",
    )
    region: Region | None = Field(
        default=None, description="Region of the bucket; us-east-1 when absent."
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret in the job's namespace with the keys AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY and, where there is one, AWS_SESSION_TOKEN. The operator never "
        "reads it. Without it the store is asked without a key.",
    )
